"""The deployment on AWS: handlers for Lambda, the state machines, and the template that puts them up."""
