"""What the tests share: render a variant, work in a project as its user does, look into a container."""
