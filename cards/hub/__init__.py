"""A local hub: enough of the Hugging Face Hub's protocol, on this machine, to rehearse and test releases."""
