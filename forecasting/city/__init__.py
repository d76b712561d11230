"""How the networks and trees of one city are fitted."""
