"""One file per task: pre-process, engine, typed result."""
