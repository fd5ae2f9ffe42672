"""The prompt page: a local server where a person annotates objects, watches them tracked and corrects them."""
