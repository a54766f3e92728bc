"""The register of tests that show what a setting does; ``test_settings_matter.py`` sees that none is missing."""

from omnimemory.config import SPECS

TESTED: dict[str, object] = {}


def matters(key):
    """Register a test as the one that shows what a setting does."""

    def register(test):
        assert key in SPECS, key
        TESTED[key] = test
        return test

    return register
