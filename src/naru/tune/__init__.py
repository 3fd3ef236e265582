"""Fine-tuning of local models: the check of the data (pure), and LoRA through TRL and PEFT (extra `tune`)."""
