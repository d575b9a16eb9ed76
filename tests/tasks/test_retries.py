"""Which failures of a shard are tried again: those that time may mend."""

import errno
import json

import pytest
from prefect.states import Completed, Failed

from ovseg.errors import OvsegError
from ovseg.files.publish import WriteError
from tasks.run import _worth_a_retry, compute_shard


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (FileNotFoundError("a mount that is gone"), True),
        (ConnectionError("the store went away"), True),
        (RuntimeError("CUDA out of memory"), True),
        (OSError(errno.EIO, "a flaky disk"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (WriteError("a flaky disk", errno.EIO), True),
        (WriteError("a share that is away", errno.ESTALE), True),
        (WriteError("no space left on device", errno.ENOSPC), False),
        (WriteError("a file stands there", errno.ENOTDIR), False),
        (OvsegError("mend the input"), False),
        (ValueError("a bug"), False),
        (KeyError("a bug"), False),
        (IndexError("a bug"), False),
        (AttributeError("a bug"), False),
        (AssertionError("a bug"), False),
        (ModuleNotFoundError("not installed"), False),
        (TypeError("a bug"), False),
        (NotImplementedError(), False),
        (json.JSONDecodeError("torn", "{", 0), False),
    ],
)
def test_what_the_user_has_to_mend_is_not_tried_again(error, again):
    assert _worth_a_retry(None, None, Failed(data=error)) is again


def test_a_success_is_not_tried_again():
    assert _worth_a_retry(None, None, Completed(data=1)) is False


def test_shards_use_the_rule():
    assert compute_shard.retry_condition_fn is _worth_a_retry
    assert compute_shard.retries == 2 and compute_shard.retry_delay_seconds == [2, 20]
