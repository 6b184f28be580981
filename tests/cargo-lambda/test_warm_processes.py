"""Run last: no invocation of the whole suite has started a second process of a function."""

from conftest import FUNCTIONS


def test_each_function_has_one_process(watch, circle):
    for function in FUNCTIONS:
        # No function of the API can read this event, and each survives it.
        watch.call("POST", f"/2015-03-31/functions/{function}/invocations", json={})
    assert sorted(watch.started()) == FUNCTIONS
