"""The artefact: a folder with manifest, nets, reference vectors and signature."""
