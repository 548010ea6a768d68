"""What every test starts from."""

import signal

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a test fails on what is wrong, never on a time
settings.load_profile("no deadline")


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive():
    """A test run in the background inherits an ignored SIGINT; tests of interrupts, and their children, need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
