"""One plugin serves every test here: what it needs, and which rig it runs on. No test is timed. Shell."""

from hypothesis import settings

settings.register_profile("a test is not timed", deadline=None)
settings.load_profile("a test is not timed")

pytest_plugins = ["hil_tests.plugin"]
