"""What the tests of securegan/security share."""

from hypothesis import settings

settings.register_profile("security", deadline=None)  # how long an example takes says more about the machine
settings.load_profile("security")
