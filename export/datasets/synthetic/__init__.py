"""Pictures and volumes that are drawn."""
