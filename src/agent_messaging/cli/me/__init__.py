"""`agent-messaging me`: a person takes part as an agent, at a full-screen terminal program."""
