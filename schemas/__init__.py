"""What travels: the wire contract as pydantic models, and the words and limits all layers share."""
