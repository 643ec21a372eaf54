"""A crew, a Flow and a tool of one's own, for an image built on the runner's."""
