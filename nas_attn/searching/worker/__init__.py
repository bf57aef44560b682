"""One worker: how it takes runs, is listed and is stopped, and the device that it uses."""
