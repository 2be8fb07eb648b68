"""A robot's part in federated rounds: what travels (`codecs`, `wire`), who may (`roster`, `gate`), when (`round`)."""
