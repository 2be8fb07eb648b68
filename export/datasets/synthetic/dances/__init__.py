"""Group dances on synthesised music: every beat, style and formation is known."""
