"""What `pytest --nbval notebooks` needs: chapters read records and train none, and print no bars that move."""

import os

os.environ["HWR_TRAIN"] = "never"
os.environ["TQDM_DISABLE"] = "1"
