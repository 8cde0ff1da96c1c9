/** Pages of Armillary's service, which lies on the same site as this JupyterLab. */

/** The address of a page; undefined: this is no page of this site, and is not opened. */
export function pageAddress(path: string, here: string): string | undefined {
  try {
    const address = new URL(path, here);
    return path.startsWith('/') && address.origin === new URL(here).origin
      ? address.href
      : undefined;
  } catch {
    return undefined;
  }
}

/** Open a page in a tab of its own. */
export function openPage(path: string): void {
  const address = pageAddress(path, window.location.href);
  if (address !== undefined) {
    window.open(address, '_blank', 'noopener');
  }
}

/** Open a page instead of this one. */
export function goToPage(path: string): void {
  const address = pageAddress(path, window.location.href);
  if (address !== undefined) {
    window.location.assign(address);
  }
}
