"""What distilabel 1.5.3 needs from us before it is imported. Goes away with a release that is quiet by itself.

Condition for removal: a distilabel release after 1.5.3 that (a) imports under the current pydantic without
warnings, (b) leaves the root logger's handlers alone and (c) installs no traceback that prints every frame's locals.
"""

from __future__ import annotations

import os
import sys
import warnings


def quiet_distilabel() -> None:
    """Call before the first import of distilabel in a command: no pydantic warnings, no log noise, no locals shown.

    Among the locals of a command are the keys that it was given.
    """
    os.environ.setdefault("DISTILABEL_LOG_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", message="The '.*' attribute with value", category=UserWarning)
    hook = sys.excepthook
    import distilabel  # noqa: F401 (the package alone: a tenth of a second)

    sys.excepthook = hook
