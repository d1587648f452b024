# Two commands do everything: `make demo` (the whole job on an embedded model) and `make test`.
PY := .venv/bin/python
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-unit test-integration lint format clean constraints lock vulnerabilities benchmarks help
help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

.venv/.ready: pyproject.toml constraints.txt .ci/setup .ci/excludes-cpu.txt
	@.ci/setup
	@touch $@

demo: .venv/.ready ## watch a policy become training data, on 2 cores
	@.venv/bin/specdistill demo

test: test-unit test-integration ## all tests: fast ones first, then the ones with real services

test-unit: .venv/.ready
	$(PY) -m pytest -m "not integration" -q -n 2

test-integration: .venv/.ready
	@.ci/chromium
	$(PY) -m pytest -m integration -q --durations=25 -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.ready ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.ci/types

format: .venv/.ready ## let ruff rewrite
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

constraints: .venv/.ready ## write the versions that are installed now as the tested ones
	.ci/constraints > constraints.txt

lock: ## write requirements.lock: the tested versions with the hashes of their files
	.ci/lock > requirements.lock.new && mv requirements.lock.new requirements.lock

vulnerabilities: ## look every locked package up in a vulnerability database (needs the network)
	uv tool run pip-audit==2.10.1 --strict --disable-pip --requirement requirements.lock

benchmarks: .venv/.ready ## regenerate the tables of benchmarks/results; --rounds and the like: see each script
	@for run in "peers.py" "engine_overhead.py http" "capacity.py" "peer_faults.py" "prompts_planted.py" \
	  "interval_coverage.py" "filters.py --write" "judge_trust.py --write"; do \
	  echo "== benchmarks/$$run"; $(PY) benchmarks/$$run || exit 1; done
	@echo "Not among them. Long: faults.py (a quarter of an hour), crashes.py (an hour), fuzz.py, eval_experiment.py,"
	@echo "prompts_scale.py, reaggregate.py --write, publish_memory.py. With vLLM: engine_overhead.py vllm, and server."
	@echo "With an Argilla server: audit_push.py. With a GPU: gpu_engine.py, gpu_train.py."

clean: ## remove what these commands made, runs/ excepted
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
