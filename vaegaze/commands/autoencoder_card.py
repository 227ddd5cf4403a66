"""The page beside an autoencoder that was trained alone."""

from collections.abc import Sequence
from pathlib import Path

from vaegaze.config.tree import to_yaml
from vaegaze.models import VAEGaze
from vaegaze.models.device import find_device
from vaegaze.pretraining.progress import Progress
from vaegaze.pretraining.sources import HeldOut, measured_on


def autoencoder_card(
    config, path: str, model: VAEGaze, progress: Progress, trained_on: str, held_out: Sequence[HeldOut]
) -> str:
    """In Markdown, its numbers measured; `path` is the YAML file of `config`."""
    params = config.pretrain_params
    where = "a GPU" if find_device(params.device).startswith("cuda") else f"{params.threads} CPU threads"
    record = progress.records[-1]
    size = sum(parameter.numel() for parameter in model.vae.parameters())
    return f"""# {Path(params.output).name}

The autoencoder of a VAE-GAZE model, alone, stored in half precision: pictures to latents and back. `vaegaze pretrain`
wrote it, and this page.

- **Trained on** {trained_on}.
- **Made by** `vaegaze pretrain --config {path}`, with the settings below.
- **Time** {progress.seconds / 60:.0f} minutes of training on {where}, {params.precision}; {params.vae_steps:,} steps.
- **Parameters** {size:,}.
- **Held-out eyes** {record["held_out_eye_psnr"]:.2f} dB: in {measured_on(held_out)} of other persons, at
  {model.canvas.size_text}.

```yaml
{to_yaml(config).strip()}
```
"""
