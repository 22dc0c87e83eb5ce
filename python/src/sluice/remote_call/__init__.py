"""``sluice-remote-call``: serves a handler of an image as ``chalk.runtime.v1.RemoteCallService``.

It needs the extra ``remote-call`` of this package: ``pip install '/path/to/sluice/python[remote-call]'``.

A handler takes ``event: dict[str, pyarrow.Array]``, the columns of a batch, and ``context: dict`` (``function_name``,
``peer``, ``metadata``, and what the server told of the batch). It answers one value for each row: a ``pyarrow.Array``,
a list or a NumPy array (column ``result``), or a dict of columns, a ``Table`` or a ``RecordBatch``. It may be a coroutine
function, or a generator whose items are consecutive parts of the rows.
"""
