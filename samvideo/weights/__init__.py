"""Published weights: where they are, how to fetch them, what their keys are called."""
