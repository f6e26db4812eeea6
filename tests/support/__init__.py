"""Fakes, builders and launchers of the tests. The source tree never imports it."""
