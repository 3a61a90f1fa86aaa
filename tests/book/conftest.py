from browsing import browser  # noqa: F401  a fixture
