"""How the models of each task are tuned."""

from __future__ import annotations

from finetune import Recipe

# task -> shape -> (recipe, epoch after which the tuning stops; the learning rate falls as if it went on)
RECIPES: dict[str, dict[str, tuple[Recipe, int]]] = {
    "atlas-qa": {"small": (Recipe(3e-4, 2, "layers"), 1), "large": (Recipe(1e-4, 2), 1)},
    "gsm-mini": {"small": (Recipe(1e-3, 6, "layers"), 6), "large": (Recipe(5e-4, 3), 3)},
    "atlas-records": {"small": (Recipe(1e-3, 6, "used"), 6), "large": (Recipe(3e-4, 3), 3)},
}

# Folders of the expert and of the directly tuned base.
FOLDERS = {
    "atlas-qa": {"small": "atlas-expert", "large": "atlas-tuned"},
    "gsm-mini": {"small": "gsm-expert", "large": "gsm-tuned"},
    "atlas-records": {"small": "records-expert", "large": "records-tuned"},
}
