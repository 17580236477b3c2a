"""The tests of the template, laid out along the way of the data: each file checks one step."""
