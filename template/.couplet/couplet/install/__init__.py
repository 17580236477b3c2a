"""Lock files -> an environment, and the verification that it is what the locks say."""
