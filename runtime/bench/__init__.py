"""Records of what was measured, and the reports made from them."""
