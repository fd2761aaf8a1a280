"""One plugin serves every test here: what it needs, and which rig it runs on. Shell."""

pytest_plugins = ["hil_tests.plugin"]
