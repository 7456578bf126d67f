"""Where the routing signal of attention lives: groups of query and key channels kept or masked in the score of pages alone."""
