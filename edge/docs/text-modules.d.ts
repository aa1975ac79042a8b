/** Text files that the bundler turns into modules. */
declare module "*.txt" {
  const text: string;
  export default text;
}
