// Served by `bnconf report --serve`: the page asks now and then whether there is a newer one.
{
  let seen = null;
  setInterval(async () => {
    try {
      const stamp = await (await fetch('/stamp', { cache: 'no-store' })).text();
      if (seen !== null && stamp !== seen) location.reload();
      seen = stamp;
    } catch { /* the server has stopped */ }
  }, 1000);
}
