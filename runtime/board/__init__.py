"""What this machine is, which of its versions fail, and what was found fastest on it."""
