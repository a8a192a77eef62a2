# `make run` starts the daemon, `make test` checks everything, `make bench` measures beside libvirtd.
# Each does its own set-up; nothing has to be installed by hand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := virtbackupd.protocol virtbackupd.server virtbackupd.drivers virtbackupd.testing
SOURCES := protocol server drivers testing tests

# What the tests need beside Python: stock clients and headers, Go and its libvirt client, QEMU's tools,
# libnbd, virtnbdbackup.
TEST_PACKAGES := curl dbus-daemon gcc gnutls-bin golang-github-digitalocean-go-libvirt-dev golang-go \
	libnbd-bin libnbd-dev libsasl2-modules libvirt-clients libvirt-dev nbdkit openssl pkg-config \
	python3-dev python3-libnbd python3-libvirt qemu-system-x86 qemu-utils \
	systemd virtnbdbackup
BENCH_PACKAGES := libvirt-daemon libvirt-daemon-system

.PHONY: run test check bench docs clean

run: $(VENV)/.installed
	@exec $(BIN)/virtbackupd serve $(ARGS)

$(VENV)/bin/python:
	@.ci/make-venv "$(PYTHON)" "$(VENV)"

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@.ci/apt-install $(TEST_PACKAGES)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@mkdir -p build/mypy && ln -sfn ../.. build/mypy/virtbackupd
	@touch $@

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	$(BIN)/mypy tests
	$(BIN)/lint-imports

test: check
	@.ci/make-guest build/guest "$(CURDIR)/tests/support/linux_init.sh"
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bench: $(VENV)/.installed-test
	@.ci/apt-install $(BENCH_PACKAGES)
	$(BIN)/python tests/benchmarks/run.py $(BENCH_ARGS)
	$(BIN)/python tests/benchmarks/run_qemu.py $(BENCH_ARGS)

docs: $(VENV)/.installed-test
	$(BIN)/python tests/support/supported_calls.py
	$(BIN)/python tests/support/configuration_page.py
	$(BIN)/python tests/support/permissions_page.py

clean:
	rm -rf $(VENV) build
