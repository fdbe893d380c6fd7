.PHONY: demo test check

demo: ## set up, then run the main job on the docstrings of the installed packages
	@scripts/setup
	@scripts/demo

test: ## set up, then run the tests
	@scripts/setup
	@scripts/test

check: ## set up, then format, lint, types and architecture
	@scripts/setup
	@scripts/check
