"""What holds jobs against the engines' own rules, in the environment of make launch."""
