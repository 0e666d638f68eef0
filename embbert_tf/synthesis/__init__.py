"""New texts and pairs made out of existing ones."""
