/** A whole number below another, each as likely as the next. */
export const random = (below: number): number => Math.floor(Math.random() * below);
