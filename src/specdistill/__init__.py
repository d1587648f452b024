"""specdistill: from a written policy to training data that teaches a model to reason over it.

The code lives in the top-level folders of the repository (`specs/`, `schemas/`, `builders/`, `cards/`, `train/`)
and is imported as `specdistill.specs`, `specdistill.schemas` and so on.
"""

from specdistill.version import __version__

__all__ = ["__version__"]
