"""Videos: finding, labelling and reading them, and cutting clips out of them."""
