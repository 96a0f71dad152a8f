import { instance, serve } from "./service.mjs";

serve(() => ({ id: 0, stars: { Reviewer1: 5, Reviewer2: 4 }, instance }));
