"""Settings, all public: sections, flags, presets, and how layers of them are resolved."""
