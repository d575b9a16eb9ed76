"""What a class is called: templates, prompts, synonyms, relations."""
