"""Condensation methods, one file each; ``conf/method/NAME.yaml`` names the class."""
