"""Music: files in, features of every frame out, as a stream; numpy, and libsndfile for the files."""
