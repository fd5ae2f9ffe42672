"""The prompt page: a local server where a person marks objects, watches them tracked and corrects them."""
