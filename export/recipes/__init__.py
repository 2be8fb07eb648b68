"""One file per task: what is judged at export, on what."""
