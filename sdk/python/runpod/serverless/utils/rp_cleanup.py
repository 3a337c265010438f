"""clean(): removes the folders that handlers leave behind in the working directory."""

import os
import shutil


def clean(folder_list=None):
    """Removes input_objects, output_objects, job_files, output.zip and each folder of `folder_list`."""
    for folder in ["input_objects", "output_objects", "job_files", *(folder_list or [])]:
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.exists("output.zip"):
        os.remove("output.zip")
