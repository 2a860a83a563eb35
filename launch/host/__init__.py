"""What every host of a job runs, whichever engine has made it."""
