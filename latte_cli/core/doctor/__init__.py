"""What `latte doctor` checks: the installation, the machine, and an experiment's needs of them."""
