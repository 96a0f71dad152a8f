import { instance, serve, upstream } from "./service.mjs";

const details = upstream("DETAILS");
const reviews = upstream("REVIEWS");

serve(async ({ headers }) => {
  // Whoever is logged in stays known all the way: routes may depend on it.
  const user = headers["end-user"];
  const passed = user === undefined ? {} : { "end-user": user };
  const [book, opinions] = await Promise.all([details("/details/0", passed), reviews("/reviews/0", passed)]);
  return { page: "The Comedy of Errors", instance, details: book, reviews: opinions };
});
