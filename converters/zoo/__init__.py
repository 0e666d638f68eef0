"""The maintainers' commands for `zoo/`."""
